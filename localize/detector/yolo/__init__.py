"""All use of Ultralytics: `library` isolates it, `network` builds detectors, `training` and `inference` use them."""
