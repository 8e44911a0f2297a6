"""Schedules found for a target: for classes that overlap, and for classes that are told apart."""
