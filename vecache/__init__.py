"""The layers cache of containers/storage as a numpy batch index."""
