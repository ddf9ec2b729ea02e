"""`rollcall doctor`: check what an operator needs before `pulumi up`."""
