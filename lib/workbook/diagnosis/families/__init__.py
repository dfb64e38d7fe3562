"""The families of detectors, a file each; `diagnosis.family.families` finds them."""
