"""Other ways to search vectors and to find related articles, each in one file behind one interface."""
