"""Labels as files that other tools open: a module for each family of formats, one loop for all."""
