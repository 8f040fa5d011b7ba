"""Shards of crops and pyramids: what they hold, how they are listed, and how batches are read from them."""
