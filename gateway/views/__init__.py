"""The data plane and a key's own state as Django REST framework's views: the documented contract, and an edge of its own."""
