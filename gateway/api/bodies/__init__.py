"""How rows look from outside: one function per kind of thing, with every field that the contract names for it."""
