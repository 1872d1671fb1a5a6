package seal

// TopicRoot begins every topic of the contract. Its version covers the topics and the messages on them.
const TopicRoot = "offload/v1/"

// AnnouncementTopic is the topic on which a consumer announces its subscription. All nodes subscribe to it.
const AnnouncementTopic = TopicRoot + "consumer"

// BatchTopic returns the topic on which a node publishes the batches of a class.
func BatchTopic(node, class string) string { return TopicRoot + node + "/batch/" + class }

// GoneTopic returns the topic on which a node reports gone records.
func GoneTopic(node string) string { return TopicRoot + node + "/gone" }

// ConfirmTopic returns the topic on which a node confirms processed results.
func ConfirmTopic(node string) string { return TopicRoot + node + "/confirm" }

// ReceiptTopic returns the topic on which a node receives receipts.
func ReceiptTopic(node string) string { return TopicRoot + node + "/receipt" }

// ResultTopic returns the topic on which a node receives the results of its tasks.
func ResultTopic(node string) string { return TopicRoot + node + "/result" }
