/** Client of Gramophone for browsers and Node.js, over HTTP. @gramophone/client/node is the same over gRPC. */

export { timestampDate } from "@bufbuild/protobuf/wkt";
export { JobOrder, JobService } from "./gen/gramophone/v1/job_service_pb.js";
export { type Model, ModelService } from "./gen/gramophone/v1/model_service_pb.js";
export {
  ComputeMode,
  type EstimateJobResponse,
  StyleTransferService,
} from "./gen/gramophone/v1/style_transfer_service_pb.js";
export { type ConnectOptions, connect } from "./http.js";
export * from "./shared.js";
