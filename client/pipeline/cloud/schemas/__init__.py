"""What the functions return, where the hosted SDK has it."""
