"""How the detectors in localize/weights were made, and how they fare on patients whom they have not seen."""
