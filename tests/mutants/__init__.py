"""The verifier against thousands of damaged modules, and against thousands that are only laid out otherwise."""
