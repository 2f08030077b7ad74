"""What the tests stand on: a scripted upstream, a real one, the whole server, and looks into databases."""
