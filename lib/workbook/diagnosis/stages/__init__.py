"""The stages, a file each; `diagnosis.stage.stages_of` finds them."""
