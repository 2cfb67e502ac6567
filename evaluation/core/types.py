"""Shapes of the arrays that travel; leading axes are left out where there is one only."""

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

Array = Shaped[np.ndarray, "..."]
Maps = Float[np.ndarray, "member picture class row col"]
Map = Float[np.ndarray, "picture class row col"]
Labels = Integer[np.ndarray, "picture row col"]
Pictures = Integer[np.ndarray, "picture channel row col"]
Counts = Integer[np.ndarray, "picture true guess"]
Groups = Shaped[np.ndarray, "picture"]
Kept = Bool[np.ndarray, "picture"]
Shares = Float[np.ndarray, "class"]
