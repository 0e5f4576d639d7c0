"""Stage 2: grades each localized finding Normal/Mild, Moderate or Severe with a ResNet50 over crops in mm.

Needs torch and torchvision; works with ultralytics absent.
"""
