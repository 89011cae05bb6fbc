"""Systems of one task side by side: equal budgets and sizes, several seeds, one table."""
