"""Documentation, and what generates the parts of it that stand in the code already."""
