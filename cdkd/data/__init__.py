"""People in images: annotation files, crops, augmentation and the training examples made of them."""
