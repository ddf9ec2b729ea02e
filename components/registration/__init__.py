"""The two dynamic resources that keep the stack's state and DNS in step, RollCall and Deregistration, and what they do."""
