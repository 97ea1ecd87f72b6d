// Paints a texture with a channel of gRPC's defaults: client ADDRESS PICTURE SIZE. Prints the bytes of the result, or why not.
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iostream>
#include <iterator>

#include "gramophone/v1/style_transfer_service.grpc.pb.h"

int main(int, char** argv) {
  namespace v1 = gramophone::v1;
  std::ifstream file(argv[2], std::ios::binary);
  v1::ReconstructStyleRequest request;
  request.add_styles()->mutable_image()->set_data(std::string(std::istreambuf_iterator<char>(file), {}));
  request.add_style_layers()->set_layer("conv1_1");
  request.mutable_options()->set_size(std::stoi(argv[3]));
  request.mutable_options()->set_iterations(1);

  auto stub = v1::StyleTransferService::NewStub(grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  auto stream = stub->ReconstructStyle(&context, request);
  v1::ReconstructStyleResponse response;
  while (stream->Read(&response)) {
    if (response.event().has_result()) std::cout << response.event().result().image().data().size() << std::endl;
  }
  grpc::Status status = stream->Finish();
  if (!status.ok()) std::cerr << status.error_code() << ": " << status.error_message() << std::endl;
  return status.ok() ? 0 : 1;
}
