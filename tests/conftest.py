"""What all tests share."""

import os

# Many small tensors on shared cores: threads would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["KERAS_BACKEND"] = "torch"
