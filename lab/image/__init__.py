"""Guest images and the Debian packages that are in them."""
