"""All layers of a store as one set.

`lookup.py` is the kernel of a look-up, on the sorted runs of `run.py` and the tags of `tags.py`;
read it first. `merge.py` sorts the tags, `disk.py` and `disk_write.py` keep a run in a file, and
`disk_folder.py` those of a store. `load.py` gets the cache of each layer, `layers_cache.py` holds
them as a set, `result.py` holds what was found.
"""
