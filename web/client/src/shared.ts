/** What the clients over HTTP and over gRPC have in common. */

export * from "./client.js";
export * from "./errors.js";
export {
  type EncodedImage,
  type Job as JobInfo,
  type JobError,
  type JobEvent,
  JobKind,
  type JobResult,
  JobState,
  type LayerLoss,
  LossKind,
  type Progress,
  type Timings,
} from "./gen/gramophone/v1/job_pb.js";
export * from "./gen/gramophone/v1/options_pb.js";
export { type Following, isFinal, Job, seconds } from "./job.js";
