"""RollCall and Deregistration, the two dynamic resources that keep the stack's state and DNS in step, and what they do."""
