"""All layers of a store as one set.

`lookup.py` is the kernel of a look-up, on the keys of `keys.py` and the tags of `tags.py`; read it
first. `load.py` gets the cache of each layer, `layers_cache.py` holds them as a set, `result.py`
holds what was found.
"""
