"""Stage 2: grades each localized finding Normal/Mild, Moderate or Severe with a ResNet50 over crops in mm.

Needs torch, and torchvision for other trunks than ResNet50; works with ultralytics absent.
"""
