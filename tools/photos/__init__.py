"""Training for a generator of photographs that is already there: MobileStyleGAN."""
