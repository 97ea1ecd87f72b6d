"""Checks and times every CUDA path on a real GPU: `python -m benchmarks.gpu`.

No line for CUDA has run on a real GPU yet. The tests prove on a CUDA runtime that computes nothing (tests/fake_cuda): launches, copies,
waits, devices, the allocator's memory, captures, and what becomes of errors. They prove on a CPU: that recorded updates have the bits of
updates that run as they are, by a recorder that repeats torch's operations on the same memory (tests/engine/tape.py). This check proves
the rest, which only a GPU can show:

* numbers: that losses, gradients and optimizers agree with the CPU (parity), and that graphs change no bit (determinism);
* the order of work on several streams: captures, previews, and pairs in pinned memory. The fake device does all work at once;
* memory of work space: cuDNN asks for none on the fake device. The factors of CUDA in worker/plan.py are measured there (memory);
* that cuDNN, cuBLAS and cuFFT can be captured, and choose the same algorithms in a capture (determinism);
* that ONNX Runtime extracts features on the GPU (server);
* times: steps, graphs, batches, the ratio to the convolutions alone and to an ordinary script (timing). The fake device has none.

It needs torch 2.8 or newer (`out_dtype` of `bmm`), and nothing that is newer than torch 2.11 or ONNX Runtime 1.20.
"""
