"""Offline data building: photos become aligned face crops, and crops become training shards."""
