"""The steps that can strip a module, and the outside tools behind some of them."""
