"""Measurements that users can repeat: ways of doing the same, side by side on one machine."""
