"""Jobs on a whole data folder: back it up, restore it, embed it anew with another model."""
