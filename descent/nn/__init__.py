"""What two models or more share, and pure tensor functions: the parts every model is made of."""
