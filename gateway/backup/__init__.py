"""Backups: everything that the house has decided and booked, as lines of JSON, without one clear secret."""
