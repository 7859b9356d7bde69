"""Many stores in one folder, for questions about all of them at once.

Each node is a snapshot of a store; layers that nodes share are stored once. `fleet add` makes the
folder. A node is a store for every verb too: `--store FOLDER#NODE`.
"""
