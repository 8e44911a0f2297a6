"""What is measured: the distortion of each class, with intervals, floors and p-values, in float64."""
