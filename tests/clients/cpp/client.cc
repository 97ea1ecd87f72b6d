// Paints a texture with a channel of gRPC's defaults: client ADDRESS PICTURE SIZE. Prints the bytes of the result, or why not.
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iostream>
#include <iterator>

#include "gramophone/v1/job_service.grpc.pb.h"
#include "gramophone/v1/style_transfer_service.grpc.pb.h"

// The bytes of a job's result, which come in pieces.
size_t Download(const std::shared_ptr<grpc::Channel>& channel, const std::string& job_id) {
  namespace v1 = gramophone::v1;
  v1::DownloadResultRequest request;
  request.set_job_id(job_id);
  auto stub = v1::JobService::NewStub(channel);
  grpc::ClientContext context;
  auto stream = stub->DownloadResult(&context, request);
  v1::DownloadResultResponse response;
  size_t size = 0;
  while (stream->Read(&response)) size += response.data().size();
  grpc::Status status = stream->Finish();
  if (!status.ok()) std::cerr << status.error_code() << ": " << status.error_message() << std::endl;
  return size;
}

int main(int, char** argv) {
  namespace v1 = gramophone::v1;
  std::ifstream file(argv[2], std::ios::binary);
  v1::ReconstructStyleRequest request;
  request.add_styles()->mutable_image()->set_data(std::string(std::istreambuf_iterator<char>(file), {}));
  request.add_style_layers()->set_layer("conv1_1");
  request.mutable_options()->set_size(std::stoi(argv[3]));
  request.mutable_options()->set_iterations(1);

  auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
  auto stub = v1::StyleTransferService::NewStub(channel);
  grpc::ClientContext context;
  auto stream = stub->ReconstructStyle(&context, request);
  v1::ReconstructStyleResponse response;
  while (stream->Read(&response)) {
    if (!response.event().has_result()) continue;
    const auto& image = response.event().result().image();
    // A large file is not in the event.
    size_t size = image.data().empty() ? Download(channel, response.event().job_id()) : image.data().size();
    if (size == image.size()) std::cout << size << std::endl;
  }
  grpc::Status status = stream->Finish();
  if (!status.ok()) std::cerr << status.error_code() << ": " << status.error_message() << std::endl;
  return status.ok() ? 0 : 1;
}
