"""Check all that a store and a user's cache folder hold, and mend what is ours to mend.

`rules.py` lists what is checked; read it first. `caches.py` checks cache files and TOCs,
`records.py` the lists against the folders, `kept.py` the user's cache folder, `drift.py` the files
of layers, which `beneath.py` opens. `check.py` runs them all, `mend.py` repairs.
"""
