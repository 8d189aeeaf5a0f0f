"""A study over HTTP: the page, its requests, and the clips. Needs the extra ``latentshift[study]``.

``app`` turns requests into calls of the store, ``run`` listens. A confirmed answer is on the disk.
"""
