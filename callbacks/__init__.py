"""What happens around training: precision, AUROC tracking, threshold, predictions, TensorBoard, snapshot."""
