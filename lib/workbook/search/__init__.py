"""`workbook remedy`: what would fix a run, found on images cut from train and proven on val."""
