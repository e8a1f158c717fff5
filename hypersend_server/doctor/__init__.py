"""`hypersend-server doctor`: what really goes wrong in the field, looked for from outside in. One module an area."""
