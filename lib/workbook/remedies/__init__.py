"""What may find more of the small objects: a file a remedy, found by listing this folder."""
