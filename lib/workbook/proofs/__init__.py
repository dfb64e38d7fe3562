"""What a search and a proof of remedies measured: the statistics, and the records of proof.json with one writer and one reader."""
