// Paints a texture with a channel of gRPC's defaults: client ADDRESS PICTURE SIZE RESULT.
#include <grpcpp/grpcpp.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "gramophone/v1/job_service.grpc.pb.h"
#include "gramophone/v1/style_transfer_service.grpc.pb.h"

namespace v1 = gramophone::v1;

void Check(const grpc::Status& status) {
  if (status.ok()) return;
  std::cerr << status.error_code() << ": " << status.error_message() << std::endl;
  std::exit(1);
}

v1::ReconstructStyleRequest Request(const char* picture, const char* size) {
  std::ifstream file(picture, std::ios::binary);
  v1::ReconstructStyleRequest request;
  request.add_styles()->mutable_image()->set_data(std::string(std::istreambuf_iterator<char>(file), {}));
  request.add_style_layers()->set_layer("conv1_1");
  request.mutable_options()->set_size(std::stoi(size));
  request.mutable_options()->set_iterations(1);
  return request;
}

std::string Download(const std::shared_ptr<grpc::Channel>& channel, const std::string& job) {
  v1::DownloadResultRequest request;
  request.set_job_id(job);
  grpc::ClientContext context;
  auto stream = v1::JobService::NewStub(channel)->DownloadResult(&context, request);
  v1::DownloadResultResponse response;
  std::string file;
  while (stream->Read(&response)) file += response.data();
  Check(stream->Finish());
  return file;
}

// Returns the result file of a job: from its last event, or by download if it is too large for an event.
std::string Paint(const std::shared_ptr<grpc::Channel>& channel, const v1::ReconstructStyleRequest& request) {
  grpc::ClientContext context;
  auto stream = v1::StyleTransferService::NewStub(channel)->ReconstructStyle(&context, request);
  v1::ReconstructStyleResponse response;
  std::string file;
  while (stream->Read(&response)) {
    if (!response.event().has_result()) continue;
    const auto& image = response.event().result().image();
    file = image.data().size() < image.size() ? Download(channel, response.event().job_id()) : image.data();
  }
  Check(stream->Finish());
  return file;
}

int main(int, char** argv) {
  auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
  std::ofstream(argv[4], std::ios::binary) << Paint(channel, Request(argv[2], argv[3]));
}
