/** Client of Gramophone for browsers and Node.js, over HTTP. @gramophone/client/node is the same over gRPC. */

export { timestampDate } from "@bufbuild/protobuf/wkt";
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
export { JobOrder, JobService } from "./gen/gramophone/v1/job_service_pb.js";
export { type Model, ModelService } from "./gen/gramophone/v1/model_service_pb.js";
export * from "./gen/gramophone/v1/options_pb.js";
export {
  ComputeMode,
  type EstimateJobResponse,
  StyleTransferService,
} from "./gen/gramophone/v1/style_transfer_service_pb.js";
export { type ConnectOptions, connect } from "./http.js";
export { type Following, isFinal, Job, seconds } from "./job.js";
