"""Checks and times every CUDA path on a real GPU: `python -m benchmarks.gpu`.

No line for CUDA has run on a real GPU yet. The tests prove, on a CUDA runtime that computes nothing (tests/fake_cuda),
launches, copies, waits, devices, the allocator's memory, captures, and what becomes of errors. On a CPU they prove that
recorded updates have the bits of updates that run as they are: their recorder repeats torch's operations on the same
memory (tests/engine/tape.py). This check proves the rest, which only a GPU can show:

* numbers: losses, gradients and optimizers agree with the CPU (parity), and graphs change no bit (determinism);
* the order of work on several streams: captures, previews, and curvature pairs in pinned memory. The fake device does
  all work at once;
* work space: cuDNN asks for none on the fake device, where the factors in worker/plan.py are measured (memory);
* cuDNN, cuBLAS and cuFFT can be captured, and choose the same algorithms during a capture (determinism);
* ONNX Runtime extracts features on the GPU (server);
* times: steps, graphs, batches, and their ratios to the convolutions alone and to an ordinary script (timing).

It needs torch 2.8 or newer, for `out_dtype` of `bmm`. As far as torch's documentation tells, it needs nothing newer
than 2.11.
"""
