"""The pictures of a diagnosis, a file each; `views.diagnosis.plot.plots` finds them."""
