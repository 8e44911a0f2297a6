"""One Gaussian per class against one for everything: guided moments, exact, at any noise, through any solver."""
