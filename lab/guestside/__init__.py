"""Programs that run inside a guest: single files, standard library only."""
