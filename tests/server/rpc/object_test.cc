#include <thread>

#include "tests/server/rpc/rpc_fixture.h"

namespace kdn {
namespace {

using testing::DigestOf;
using testing::Pattern;
using testing::RpcTest;
using testing::SetDeadline;

class ObjectRpcTest : public RpcTest {
 protected:
  static v1::PutObjectFrame FirstFrame(const std::vector<uint8_t>& object, size_t data_bytes) {
    v1::PutObjectFrame frame;
    v1::PutObjectBegin& begin = *frame.mutable_begin();
    begin.set_fingerprint(std::string(DigestOf("model").view()));
    begin.set_digest(std::string(Sha256::Of(object).view()));
    begin.set_object_bytes(object.size());
    begin.set_display_name("name");
    begin.set_activate(true);
    frame.set_data(object.data(), data_bytes);
    return frame;
  }
  static std::vector<v1::PutObjectFrame> Frames(const std::vector<uint8_t>& object, size_t frame_bytes = 1 << 20) {
    std::vector<v1::PutObjectFrame> frames = {FirstFrame(object, std::min(frame_bytes, object.size()))};
    for (size_t at = frame_bytes; at < object.size(); at += frame_bytes) {
      frames.emplace_back().set_data(object.data() + at, std::min(frame_bytes, object.size() - at));
    }
    return frames;
  }
  grpc::Status Put(const std::vector<v1::PutObjectFrame>& frames, v1::PutObjectResponse* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    const auto writer = kdn_->PutObject(&context, response);
    for (const v1::PutObjectFrame& frame : frames) {
      if (!writer->Write(frame)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }
  grpc::Status Get(const Digest& digest, std::vector<v1::GetObjectFrame>& frames) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::GetObjectRequest request;
    request.set_digest(std::string(digest.view()));
    const auto reader = kdn_->GetObject(&context, request);
    for (v1::GetObjectFrame frame; reader->Read(&frame);) frames.push_back(frame);
    return reader->Finish();
  }
};

TEST_F(ObjectRpcTest, LargeObjectTravelsInFramesBothWays) {
  StartServer({});
  const std::vector<uint8_t> object = Pattern((5 << 20) + 17, 1);
  v1::PutObjectResponse response;
  const grpc::Status put = Put(Frames(object), &response);
  ASSERT_TRUE(put.ok()) << put.error_message();
  EXPECT_TRUE(response.created());
  EXPECT_TRUE(response.object().active());
  EXPECT_EQ(response.object().display_name(), "name");
  EXPECT_EQ(response.object().object_bytes(), object.size());

  std::vector<v1::GetObjectFrame> frames;
  ASSERT_TRUE(Get(Sha256::Of(object), frames).ok());
  ASSERT_EQ(frames.size(), 6u);
  EXPECT_EQ(frames[0].object().object_bytes(), object.size());
  std::string bytes;
  for (const v1::GetObjectFrame& frame : frames) {
    EXPECT_LE(frame.data().size(), size_t{1} << 20);
    bytes += frame.data();
  }
  EXPECT_EQ(bytes, AsStringView(object));
}

TEST_F(ObjectRpcTest, FramesWithoutAPlaceEndTheStream) {
  StartServer({});
  const std::vector<uint8_t> object = Pattern(3000, 1);
  v1::PutObjectResponse response;
  const auto code = [&](const std::vector<v1::PutObjectFrame>& frames) { return Put(frames, &response).error_code(); };
  EXPECT_EQ(code({}), grpc::StatusCode::INVALID_ARGUMENT) << "nothing";
  std::vector<v1::PutObjectFrame> frames = Frames(object, 1000);
  EXPECT_EQ(code({frames[1]}), grpc::StatusCode::INVALID_ARGUMENT) << "no begin";
  EXPECT_EQ(code({frames[0], frames[0]}), grpc::StatusCode::INVALID_ARGUMENT) << "two begins";
  EXPECT_EQ(code({frames[0], frames[1]}), grpc::StatusCode::INVALID_ARGUMENT) << "too few";
  EXPECT_EQ(code({frames[0], frames[1], frames[2], frames[1]}), grpc::StatusCode::INVALID_ARGUMENT) << "too many";
  EXPECT_EQ(code({frames[0], v1::PutObjectFrame()}), grpc::StatusCode::INVALID_ARGUMENT) << "no data";
  frames[2].mutable_data()->at(5) ^= 1;
  EXPECT_EQ(code(frames), grpc::StatusCode::INVALID_ARGUMENT) << "other bytes";
  std::vector<v1::GetObjectFrame> got;
  EXPECT_EQ(Get(Sha256::Of(object), got).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ObjectRpcTest, SizesBeyondTheLimitAreRefusedBeforeAnythingIsHeld) {
  StartServer({});
  const std::vector<uint8_t> object = Pattern(3000, 1);
  v1::PutObjectFrame frame = FirstFrame(object, 3000);
  frame.mutable_begin()->set_object_bytes(kMaxCalibrationBytes + 1);
  v1::PutObjectResponse response;
  EXPECT_EQ(Put({frame}, &response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  frame.mutable_begin()->set_object_bytes(uint64_t{1} << 63);
  EXPECT_EQ(Put({frame}, &response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  frame.mutable_begin()->set_object_bytes(3);
  EXPECT_EQ(Put({frame}, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ObjectRpcTest, ClientThatStopsInTheMiddleIsCancelled) {
  RpcServerOptions options;
  options.limits.stall_timeout = absl::Milliseconds(100);
  StartServer(options);
  const std::vector<uint8_t> object = Pattern(3000, 1);
  grpc::ClientContext context;
  SetDeadline(context);
  v1::PutObjectResponse response;
  const auto writer = kdn_->PutObject(&context, &response);
  ASSERT_TRUE(writer->Write(FirstFrame(object, 1000)));
  const grpc::Status status = writer->Finish();  // comes without WritesDone
  EXPECT_FALSE(status.ok());
}

TEST_F(ObjectRpcTest, ListActivateAndDeleteAnswer) {
  StartServer({});
  const std::vector<uint8_t> object = Pattern(3000, 1);
  v1::PutObjectResponse put;
  ASSERT_TRUE(Put(Frames(object), &put).ok());
  v1::ListObjectsRequest list;
  list.set_fingerprint(std::string(DigestOf("model").view()));
  v1::ListObjectsResponse listed;
  {
    grpc::ClientContext context;
    SetDeadline(context);
    ASSERT_TRUE(kdn_->ListObjects(&context, list, &listed).ok());
  }
  ASSERT_EQ(listed.objects_size(), 1);
  EXPECT_EQ(listed.objects(0).digest(), put.object().digest());
  v1::DeleteObjectRequest remove;
  remove.set_fingerprint(list.fingerprint());
  remove.set_digest(put.object().digest());
  v1::DeleteObjectResponse removed;
  {
    grpc::ClientContext context;
    SetDeadline(context);
    EXPECT_EQ(kdn_->DeleteObject(&context, remove, &removed).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  }
  remove.set_force(true);
  {
    grpc::ClientContext context;
    SetDeadline(context);
    ASSERT_TRUE(kdn_->DeleteObject(&context, remove, &removed).ok());
  }
  EXPECT_EQ(removed.object_bytes(), object.size());
  v1::ActivateObjectRequest activate;
  activate.set_fingerprint(list.fingerprint());
  activate.set_digest("short");
  v1::ActivateObjectResponse activated;
  grpc::ClientContext context;
  SetDeadline(context);
  EXPECT_EQ(kdn_->ActivateObject(&context, activate, &activated).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace kdn
