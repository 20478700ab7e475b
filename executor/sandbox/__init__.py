"""Where tested programs run: levels of isolation, process control, scratch folders."""
